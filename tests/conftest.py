"""What every test may use; each plugin keeps the fixtures of its own area."""

pytest_plugins = ["tests.fixtures_engines"]
