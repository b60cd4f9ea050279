"""What a trained model is: data plus a hash, loadable anywhere."""
