"""Decoding side by side: strategies, the lockstep decoder, beams, contrastive search, adapters beside
their base. Knows nothing of runs, hosts or screens: tensors and plain records in, plain records out.
Importing the package imports nothing heavy; ``strategies`` and ``records`` need no torch."""
