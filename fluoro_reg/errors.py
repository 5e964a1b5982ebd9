"""The one exception that says: what you gave me is unusable, and here is what to do about it.

Every reader and validator raises `InputError` with one plain sentence (no patient data, no traceback needed); the command line
turns it into exit status 2 and the node into a failed transition. What only the result of a registration can tell (a wrong CT,
an image without anatomy) is not an exception but a value: `fluoro_reg.registration.RegistrationResult`.
"""


class InputError(ValueError):
    """Unusable input: the message is one sentence that says what is wrong and what to do."""
