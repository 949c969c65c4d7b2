"""The machines behind an emulated cloud: namespaces with a real SSH server, booted as their image would."""
