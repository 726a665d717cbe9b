"""Ethereum key pairs, made here."""

from __future__ import annotations

from shared.tool_function import tool_function

provision_wallet = tool_function("wallet", name="provision_wallet")
