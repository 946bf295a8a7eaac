"""Speed of this program itself: commands that print figures, never assertions."""
