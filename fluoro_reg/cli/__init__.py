"""The command line `fluoro-reg`: `main` defines the program, and each subcommand has a module of its own."""

from fluoro_reg.waiting import wait_without_spinning

wait_without_spinning()
