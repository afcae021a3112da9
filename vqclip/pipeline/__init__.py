"""From a config to a plan, to parts, to steps."""
