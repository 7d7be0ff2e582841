"""The host: a process that keeps a model loaded for the playground, and the lab's side of talking to it."""
