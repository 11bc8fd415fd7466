"""The user's model and data: what of them enters P, and how they are left as they were."""
