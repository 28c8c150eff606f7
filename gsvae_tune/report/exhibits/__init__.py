"""What a report shows: each exhibit asks one question of a study and answers it with a figure."""
