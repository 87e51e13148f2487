// swift-tools-version: 6.1
import PackageDescription

// libtorch is found through pkg-config (`graft-libtorch.pc`, which `make engine` writes into
// `.torch/`), so that the package needs no unsafe flags and can be a versioned dependency.
let package = Package(
  name: "graft",
  platforms: [.macOS(.v15)],
  products: [
    .library(name: "Graft", targets: ["Graft"]),
    .executable(name: "graft", targets: ["GraftCLI"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.1.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
  ],
  targets: [
    // MARK: Engine
    .systemLibrary(name: "CLibtorch", pkgConfig: "graft-libtorch"),
    .target(name: "CTorch", dependencies: ["CLibtorch"]),
    .target(name: "Torch", dependencies: ["CTorch"]),
    .target(name: "NeuralNetworks", dependencies: ["Torch"]),

    // MARK: Files and text
    .target(name: "Files"),
    .target(
      name: "JSON",
      dependencies: [.product(name: "OrderedCollections", package: "swift-collections")]),
    .target(name: "Formats", dependencies: ["Torch", "Files", "JSON"]),
    .target(
      name: "Jinja",
      dependencies: ["JSON", .product(name: "OrderedCollections", package: "swift-collections")]),
    .target(
      name: "Tokenizers",
      dependencies: [
        "Files", "JSON", "Jinja", .product(name: "OrderedCollections", package: "swift-collections"),
      ]),
    .target(
      name: "Datasets",
      dependencies: ["Files", "JSON", "Tokenizers"],
      // glibc has iconv in itself.
      linkerSettings: [.linkedLibrary("iconv", .when(platforms: [.macOS]))]),

    // MARK: Models and training
    .target(
      name: "Models",
      dependencies: [
        "NeuralNetworks", "Files", "Formats", "JSON",
        .product(name: "OrderedCollections", package: "swift-collections"),
      ]),
    .target(name: "Adapters", dependencies: ["Models", "Files", "JSON"]),
    .target(
      name: "Generation",
      dependencies: [
        "Models", "Tokenizers", "Formats", "JSON",
        .product(name: "OrderedCollections", package: "swift-collections"),
      ]),
    .target(
      name: "Training",
      dependencies: [
        "Adapters", "Datasets", "Files", "Generation", "JSON",
        .product(name: "OrderedCollections", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"), .product(name: "Yams", package: "Yams"),
      ]),
    .target(
      name: "Graft",
      dependencies: [
        "Torch", "NeuralNetworks", "Files", "Formats", "JSON", "Jinja", "Tokenizers", "Models", "Adapters",
        "Datasets", "Generation", "Training",
      ]),
    .executableTarget(
      name: "GraftCLI",
      dependencies: [
        "Graft",
        .product(name: "OrderedCollections", package: "swift-collections"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ]),

    // MARK: Benchmarks
    .executableTarget(
      name: "tokenizer-check", dependencies: ["Files", "JSON", "Tokenizers"], path: "Benchmarks/Tokenizers",
      exclude: ["benchmark.py"]),

    // MARK: Tests
    .target(name: "TestSupport", dependencies: ["Torch"], path: "Tests/TestSupport"),
    .testTarget(name: "FilesTests", dependencies: ["Files", "TestSupport"]),
    .testTarget(name: "TorchTests", dependencies: ["Torch"]),
    .testTarget(name: "NeuralNetworksTests", dependencies: ["NeuralNetworks", "TestSupport", "Torch"]),
    .testTarget(
      name: "AdaptersTests",
      dependencies: ["Adapters", "Models", "NeuralNetworks", "Formats", "JSON", "TestSupport", "Torch"],
      exclude: ["Fixtures"]),
    .testTarget(
      name: "ModelsTests",
      dependencies: ["Models", "NeuralNetworks", "Formats", "JSON", "TestSupport", "Torch"],
      exclude: ["Fixtures"]),
    .testTarget(
      name: "TokenizersTests", dependencies: ["Tokenizers", "Files", "JSON"], exclude: ["Fixtures"]),
    .testTarget(
      name: "FormatsTests", dependencies: ["Formats", "TestSupport", "Torch"], exclude: ["Fixtures"]),
    .testTarget(name: "JSONTests", dependencies: ["JSON"], exclude: ["Fixtures"]),
    .testTarget(name: "DatasetsTests", dependencies: ["Datasets", "Files", "JSON"], exclude: ["Fixtures"]),
    .testTarget(
      name: "GenerationTests",
      dependencies: ["Generation", "Models", "Tokenizers", "Formats", "TestSupport", "Torch", "JSON"],
      exclude: ["Fixtures"]),
    .testTarget(name: "GraftCLITests", dependencies: ["GraftCLI", "JSON", "TestSupport"]),
    .testTarget(
      name: "TrainingTests",
      dependencies: [
        "Training", "Adapters", "Datasets", "Formats", "Models", "NeuralNetworks", "TestSupport", "Torch",
        "JSON",
        .product(name: "Logging", package: "swift-log"),
      ],
      exclude: ["Fixtures"]),
    .testTarget(name: "JinjaTests", dependencies: ["Jinja", "JSON"], exclude: ["Fixtures"]),
    .testTarget(
      name: "ChatTemplateTests", dependencies: ["Tokenizers", "Jinja", "JSON"], exclude: ["Fixtures"]),
  ],
  cxxLanguageStandard: .cxx20
)
