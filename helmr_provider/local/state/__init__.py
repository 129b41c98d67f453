"""What the control plane knows and how it changes: one module per kind of record, statements and rules together."""
