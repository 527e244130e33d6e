package api

// StorageBucketPut holds what can be changed about a bucket.
type StorageBucketPut struct {
	Config      map[string]string `json:"config" yaml:"config"`
	Description string            `json:"description" yaml:"description"`
}

// StorageBucketsPost asks for a new bucket.
type StorageBucketsPost struct {
	StorageBucketPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// StorageBucket is an S3 bucket of a storage pool.
type StorageBucket struct {
	StorageBucketPut `yaml:",inline"`

	Name     string `json:"name" yaml:"name"`
	S3URL    string `json:"s3_url" yaml:"s3_url"`
	Location string `json:"location" yaml:"location"`
}

// StorageBucketKeyPut holds what can be changed about a key of a bucket.
type StorageBucketKeyPut struct {
	Description string `json:"description" yaml:"description"`
	Role        string `json:"role" yaml:"role"`
	AccessKey   string `json:"access-key" yaml:"access-key"`
	SecretKey   string `json:"secret-key" yaml:"secret-key"`
}

// StorageBucketKeysPost asks for a new key of a bucket.
type StorageBucketKeysPost struct {
	StorageBucketKeyPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// StorageBucketKey is a key of a bucket.
type StorageBucketKey struct {
	StorageBucketKeyPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// Writable returns the part of a bucket that PUT and PATCH take.
func (b *StorageBucket) Writable() StorageBucketPut { return b.StorageBucketPut }

// Writable returns the part of a key that PUT and PATCH take.
func (k *StorageBucketKey) Writable() StorageBucketKeyPut { return k.StorageBucketKeyPut }
