"""Decoding with several strategies at once: strategies, the lockstep engine, beam and contrastive search, and
adapters in one batch with their base model. Takes token ids and plain records, returns plain records.
Importing the package loads nothing heavy; ``strategies``, ``records`` and ``metrics`` need no torch."""
