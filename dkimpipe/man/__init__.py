"""The man pages: prose in ``*.md``, options from the commands themselves; ``make man`` combines them.

The pages are installed, these modules are not.
"""
