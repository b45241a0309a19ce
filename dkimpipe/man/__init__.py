"""The man pages: prose in ``*.md``, options from the commands themselves; ``make man`` puts them together.

None of these modules is installed, only the pages are.
"""
