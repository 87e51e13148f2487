import Torch

extension LoRAInitialization {
  /// EVA: A starts in the principal directions of the layer's inputs, B at zero, and ranks go where they explain most
  /// (Paischer et al. 2024, arXiv:2410.07170). ``PEFTModel/initializeFromData(_:)`` finds them; until then A is Kaiming's.
  public static let eva = LoRAInitialization("eva", needsData: true) { try kaiming($0) }

  static let evaEntry = Entry(
    eva,
    "EVA: A is made of the principal directions of the training data inside the model, found before the first step, and "
      + "ranks move to where they explain most (arXiv 2410.07170); see `eva_config`")
}
