"""Mail inboxes from AgentMail."""

from __future__ import annotations

from shared.tool_function import tool_function

provision_email = tool_function("email", name="provision_email")
