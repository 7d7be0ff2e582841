"""The playground process, which keeps a model loaded, the client that the lab talks to it with, and votes."""
