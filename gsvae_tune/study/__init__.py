"""What a study is: configuration, paths, records, seeds. Knows neither torch nor Ray nor Optuna."""
