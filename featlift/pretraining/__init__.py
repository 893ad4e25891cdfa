"""An encoder of volumes trained without labels: cubes are blotted out, and a decoder gives them back."""
