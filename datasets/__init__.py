"""Bi-temporal pairs: found on disk, read, augmented, sampled; and the drawn scenes of the demo."""
