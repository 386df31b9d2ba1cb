"""Keeping the tables that Sluice owns in order: what is expired, what is swept up, what is rewritten."""
