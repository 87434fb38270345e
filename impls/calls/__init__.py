"""What a caller may hand in: arguments, sequences of different lengths, and the masks that dropout draws."""
