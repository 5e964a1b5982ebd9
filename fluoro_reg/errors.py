"""`InputError`, the exception for unusable input.

Readers and validators raise it with one sentence, which contains no patient data and needs no traceback. The command line maps
it to exit status 2, the node to a failed transition. Problems that only a registration reveals (a wrong CT, an image without
anatomy) are not exceptions but values: `fluoro_reg.registration.RegistrationResult`.
"""


class InputError(ValueError):
    """Unusable input. The message is one sentence that says what is wrong and what to do."""
