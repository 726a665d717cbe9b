"""Model keys from OpenRouter."""

from __future__ import annotations

from shared.tool_function import tool_function

provision_openrouter = tool_function("openrouter", name="provision_openrouter")
