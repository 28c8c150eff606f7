"""Reading a study: tables, and later estimates, figures and the report. Knows neither torch nor ray."""
