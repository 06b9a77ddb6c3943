"""Privacy beyond the wall: sums that nobody sees the terms of (`secure`), rules of what may be asked (`disclosure`)."""
