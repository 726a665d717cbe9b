"""Phone numbers from Telnyx."""

from __future__ import annotations

from shared.tool_function import tool_function

provision_sms = tool_function("sms", name="provision_sms")
