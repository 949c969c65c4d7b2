"""Stand-ins for what no test may reach: provider plugins that speak the SDK's own protocol to an emulated cloud."""
