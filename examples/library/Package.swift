// swift-tools-version: 6.1
import PackageDescription

let package = Package(
  name: "FineTune",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "graft", path: "../..")],
  targets: [
    .executableTarget(name: "FineTune", dependencies: [.product(name: "Graft", package: "graft")])
  ],
  cxxLanguageStandard: .cxx20
)
