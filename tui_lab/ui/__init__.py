"""The lab: the Textual app. Never imports torch, directly or through a helper."""
