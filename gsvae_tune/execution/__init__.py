"""Running a study on Ray Tune. The only package that imports ray."""

from gsvae_tune.execution.environment import prepare

prepare()  # Ray reads these variables when it is imported
