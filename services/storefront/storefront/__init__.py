"""The storefront: web pages that list, search and show what can be licensed. It owns nothing and decides nothing."""
