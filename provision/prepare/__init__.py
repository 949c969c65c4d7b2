"""Before the first dollar: what is asked, found at home, chosen, and written down."""
