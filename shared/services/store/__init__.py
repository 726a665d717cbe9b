"""Every read and write of the schema `services`. One module per subject, each beside its `.sql`; verbs hold no SQL."""
