"""Reading a study: the ledger and the folders -> tables. Knows neither torch nor ray."""
