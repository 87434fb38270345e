"""Arguments of a call: their validation, layouts of sequences, and the masks of dropout."""
