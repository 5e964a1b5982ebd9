"""The command line `fluoro-reg`: one module a subcommand, exit status and output in one place each."""

from fluoro_reg.waiting import wait_without_spinning

wait_without_spinning()
