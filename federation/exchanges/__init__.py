"""One class per exchange between coordinator and sites, with both sides of it."""
