"""Values: time, identifiers, JSON, errors, notifications and settings.

Hold no state of a control plane. Every package here may import them; they import none.
"""
