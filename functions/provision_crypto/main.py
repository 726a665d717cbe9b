"""Trading wallets from Bankr."""

from __future__ import annotations

from shared.tool_function import tool_function

provision_crypto = tool_function("crypto", name="provision_crypto")
