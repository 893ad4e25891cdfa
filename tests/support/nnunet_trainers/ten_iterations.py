"""A trainer that nnU-Net finds by `nnUNet_extTrainer`; it imports all that lies in the folder."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class TenIterations(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):  # nnU-Net keeps them by these names
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 10, 1
