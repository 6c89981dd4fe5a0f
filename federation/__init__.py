"""Background learning across organisations with Flower."""
