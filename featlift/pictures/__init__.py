"""Features as pictures: colours, planes with their anatomy, figures, a viewer, reports and exports."""
