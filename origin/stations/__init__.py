"""Who there is to serve: regions, counties, enrolled edges."""
