"""The registry of actions, from which keys, palette, help and the keyboard page are made."""
