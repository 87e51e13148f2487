// One import for everything that a program that fine-tunes or runs models needs.

@_exported import Adapters
@_exported import Datasets
@_exported import Files
@_exported import Formats
@_exported import Generation
@_exported import JSON
@_exported import Models
@_exported import NeuralNetworks
@_exported import Tokenizers
@_exported import Torch
@_exported import Training
