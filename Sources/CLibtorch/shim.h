// libtorch is used from C++ alone (Sources/CTorch); this module only carries its pkg-config flags.
