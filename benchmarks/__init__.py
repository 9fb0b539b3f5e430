"""Side-by-side measurements, one file per question asked."""
