"""What pulls the picture: cutouts, losses and the objective made of them."""
