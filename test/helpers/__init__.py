"""What several test files share: scenes, problems, files to read, a fake node."""

from helpers import typechecker as typechecker  # named in pyproject.toml, imported by its package
