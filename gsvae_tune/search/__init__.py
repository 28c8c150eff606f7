"""The search: arms and their spaces, samplers, and the ledger of trials. Knows optuna, not ray."""
