"""Run folders: what identifies a run, its record, the ledger of a sweep, and what a finished run leaves behind."""
