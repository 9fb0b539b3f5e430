"""How good a judgment is: pure functions from columns to numbers, and the report that shows them."""
